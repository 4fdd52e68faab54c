"""This machine as the place of a campaign's runs."""
