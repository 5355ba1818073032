"""Bases at long range: classes, profiles, segments and effects of variants from a hundred thousand bases at once."""
