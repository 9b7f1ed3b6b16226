"""What raw data and stores contain: text, pictures, measurements."""
