"""One resident worker as its parent sees it: started, spoken to in frames, watched, ended. Knows nothing of pools."""
