"""The server's front in processes of its own: connections, sound and protocols there, the model and admission here."""
