"""What is written about a dialogue: folders of results, and the door to plots."""
