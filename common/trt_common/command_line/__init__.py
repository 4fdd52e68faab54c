"""Options from the command line, a config file and the environment, for both programs."""
