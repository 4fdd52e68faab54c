"""Who may use the server: tokens, certificates, and what each port asks for."""
