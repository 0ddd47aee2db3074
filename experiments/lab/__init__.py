"""What all experiments share: runs as data, their sweep, tables, figures and verdicts."""
