"""The small sets inside scikit-learn, under one roof with the others: its own functions, unchanged."""

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

__all__ = ["load_breast_cancer", "load_diabetes", "load_digits", "load_iris", "load_wine"]
