"""Where results of steps are kept, beside the stores."""
