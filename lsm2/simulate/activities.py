"""The 20 kinds of activity bouts: how each moves the body and the wrist. All numbers are ours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

STYLE = 0.27
"""Standard deviation of each trait over bouts of one kind. It sets how well a bout's kind can be known."""


class Activity(NamedTuple):
    """What a kind of activity does on average; each bout differs from it by `STYLE` in every trait."""

    name: str
    effort: float
    """Load on the heart, 1 = near the maximum."""
    cadence: float
    """Steps, 1 = running."""
    arm: float
    """Energy of the arm's movement."""
    rhythm: float
    """How regularly the movement repeats."""
    jerk: float
    """How abruptly it changes."""
    wrist: float
    """Orientation of the forearm, -1 = hanging, 1 = raised."""
    climb: float
    """Change of altitude."""
    cooling: float
    """Loss of heat through the skin by water or wind; negative = warmth."""


ACTIVITIES = (
    Activity("walking", 0.25, 0.7, 0.3, 0.7, 0.1, -0.6, 0.1, 0.0),
    Activity("running", 0.8, 1.1, 0.8, 0.9, 0.3, 0.1, 0.1, 0.1),
    Activity("cycling", 0.6, 0.0, 0.1, 0.4, 0.2, 0.3, 0.6, 0.5),
    Activity("swimming", 0.65, 0.0, 1.0, 0.8, 0.2, 0.6, 0.0, 1.0),
    Activity("hiking", 0.5, 0.6, 0.4, 0.6, 0.2, -0.4, 1.0, 0.2),
    Activity("stair_climbing", 0.7, 0.5, 0.2, 0.7, 0.3, -0.2, 0.9, -0.2),
    Activity("rowing", 0.75, 0.0, 0.9, 1.0, 0.4, 0.0, 0.0, -0.1),
    Activity("elliptical", 0.6, 0.4, 0.6, 1.0, 0.0, 0.1, 0.0, -0.3),
    Activity("strength_training", 0.45, 0.0, 0.5, 0.2, 0.4, 0.1, 0.0, -0.3),
    Activity("yoga", 0.1, 0.0, 0.1, 0.0, 0.0, 0.5, 0.0, -0.3),
    Activity("dancing", 0.45, 0.6, 0.9, 0.5, 0.6, 0.5, 0.0, -0.4),
    Activity("tennis", 0.6, 0.6, 0.9, 0.2, 1.0, 0.2, 0.0, 0.2),
    Activity("football", 0.75, 0.8, 0.5, 0.3, 0.8, -0.3, 0.0, 0.3),
    Activity("basketball", 0.75, 0.7, 0.9, 0.2, 0.9, 0.4, 0.1, -0.3),
    Activity("golf", 0.15, 0.4, 0.3, 0.1, 0.8, -0.4, 0.3, 0.3),
    Activity("skiing", 0.5, 0.0, 0.5, 0.3, 0.6, 0.2, 1.2, 0.9),
    Activity("ice_skating", 0.5, 0.1, 0.4, 0.6, 0.3, -0.3, 0.0, 0.8),
    Activity("climbing", 0.5, 0.0, 0.6, 0.0, 0.5, 1.1, 0.7, 0.0),
    Activity("kayaking", 0.5, 0.0, 1.0, 0.8, 0.3, 0.4, 0.1, 0.7),
    Activity("gardening", 0.2, 0.2, 0.5, 0.1, 0.5, -0.5, 0.0, 0.2),
)
TRAITS = Activity._fields[1:]
TRAITS_OF_KINDS = np.array([activity[1:] for activity in ACTIVITIES])
"""(20, 8): the traits of each kind."""
