"""What every room uses: errors, files that appear whole, locks, parallel reading, the words of settings."""
