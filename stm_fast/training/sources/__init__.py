"""What training clips are drawn from: still pictures, videos, synthetic clips, shapes, and mixtures of these."""
