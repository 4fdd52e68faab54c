"""When requests are due, and which server gets each."""
