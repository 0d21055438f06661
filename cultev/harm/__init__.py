"""The cultural harm test: what is asked, who judges the answers, and how far the judges can be believed."""
