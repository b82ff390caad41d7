"""What tests share: servers, worlds, recordings, and what is given. No test is in here."""
