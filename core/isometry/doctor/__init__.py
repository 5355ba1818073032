"""The doctor: examines any network before it trains. Does the signal survive forward, the gradient backward?

from isometry.doctor import examine

report = examine(model, batch, loss=lambda model, batch: criterion(model(batch[0]), batch[1]))
print(report.text())
"""

from isometry.doctor.examination import Examination, examine
from isometry.doctor.findings import Finding
from isometry.doctor.treatment import Treatment, treat

__all__ = ["Examination", "Finding", "Treatment", "examine", "treat"]
