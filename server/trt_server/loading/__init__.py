"""From the settings to a checkpoint that is open and engines that run."""
