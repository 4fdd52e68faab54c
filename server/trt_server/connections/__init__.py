"""How many connections the server's ports hold, and for how long."""
