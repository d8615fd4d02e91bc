"""What an evaluation leaves behind for programs and for people."""

from gan_lib.evaluation.report.files import GRID, PAGE, RESULTS, SUMMARY, grid_rows, write_page, write_report

__all__ = ["GRID", "PAGE", "RESULTS", "SUMMARY", "grid_rows", "write_page", "write_report"]
