"""What README and docs report, and the scripts that print it: `read`, whole systems, and the clips that they run on."""
