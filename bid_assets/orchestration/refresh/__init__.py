"""What has changed in the application's database, which windows are stale, and in which runs they are made again."""
