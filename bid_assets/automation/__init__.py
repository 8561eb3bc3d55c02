"""What makes the loop turn by itself: noticing, refreshing, deciding when to retrain. The assets do the work."""
