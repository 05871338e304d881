"""Probes: what frozen features know of labels, judged on people they were not fitted on."""
