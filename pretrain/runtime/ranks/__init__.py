"""The processes of one run: who started them, how they meet, and how an error of one of them reaches the user."""
