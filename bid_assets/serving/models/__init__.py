"""The models that serve: watched for, loaded and verified, described."""
