"""The command lines of mmlu-client, and the settings that a run is made with."""
