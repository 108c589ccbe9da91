"""The papers' tables, each as rows of `unclutter evaluate photos`."""
