"""What training clips are drawn from: still pictures, videos, synthetic clips, and mixtures of these."""
