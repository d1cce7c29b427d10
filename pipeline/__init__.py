"""What users run: pipeline definitions, and the commands around them."""
