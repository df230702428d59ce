"""What each part of the training recipe is worth."""
