"""What every part of anyloom shares: artifacts, errors, settings, weights, plugins, events."""
