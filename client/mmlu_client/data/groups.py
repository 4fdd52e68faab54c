"""The four groups of MMLU's 57 subjects, Hendrycks' and lm-evaluation-harness's.

Both put the same subjects together, but for anatomy: `categories.py` of Hendrycks' repository counts it as
health, and so under "other"; the harness (0.4.13) has it under "stem".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A group of subjects.

    Attributes:
        name: Hendrycks' name of it.
        task: the name of its task in lm-evaluation-harness.
        alias: how the harness's tables show it.
    """

    name: str
    task: str
    alias: str

    @property
    def key(self) -> str:
        """The group's key in summary.json: `stem`, `humanities`, `social_sciences` or `other`."""
        return self.task.removeprefix("mmlu_")


STEM = Group("STEM", "mmlu_stem", "stem")
HUMANITIES = Group("humanities", "mmlu_humanities", "humanities")
SOCIAL_SCIENCES = Group("social sciences", "mmlu_social_sciences", "social sciences")
OTHER = Group("other (business, health, misc.)", "mmlu_other", "other")
# In the order of Hendrycks' file, and of the harness's.
GROUPS = (STEM, HUMANITIES, SOCIAL_SCIENCES, OTHER)
HARNESS_GROUPS = (STEM, OTHER, SOCIAL_SCIENCES, HUMANITIES)

_SUBJECTS = {
    STEM: "abstract_algebra astronomy college_biology college_chemistry college_computer_science "
    "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
    "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
    "high_school_mathematics high_school_physics high_school_statistics machine_learning",
    HUMANITIES: "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    SOCIAL_SCIENCES: "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    OTHER: "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging "
    "management marketing medical_genetics miscellaneous nutrition professional_accounting "
    "professional_medicine virology",
}
# Subject → group; what is not MMLU's own has none.
GROUP_OF: Mapping[str, Group] = {
    subject: group for group, subjects in _SUBJECTS.items() for subject in subjects.split()
}
HARNESS_GROUP_OF: Mapping[str, Group] = {**GROUP_OF, "anatomy": STEM}
