"""What only the workshop needs: servers in the background, faults, drawings and checks."""
