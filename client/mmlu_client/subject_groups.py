"""MMLU's 57 subjects in four groups, after Hendrycks' categories (hendrycks/test, categories.py)."""

from __future__ import annotations

_STEM = "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
_STEM += "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
_STEM += "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
_STEM += "high_school_mathematics high_school_physics high_school_statistics machine_learning"
_HUMANITIES = "formal_logic high_school_european_history high_school_us_history high_school_world_history "
_HUMANITIES += "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy "
_HUMANITIES += "prehistory professional_law world_religions"
_SOCIAL = "econometrics high_school_geography high_school_government_and_politics "
_SOCIAL += "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
_SOCIAL += "professional_psychology public_relations security_studies sociology us_foreign_policy"
_OTHER = "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
_OTHER += "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"

# Group → its subjects.
GROUPS = {
    "stem": tuple(_STEM.split()),
    "humanities": tuple(_HUMANITIES.split()),
    "social_sciences": tuple(_SOCIAL.split()),
    "other": tuple(_OTHER.split()),
}
