"""What people do with a trained model: generate, reconstruct; one file each."""
