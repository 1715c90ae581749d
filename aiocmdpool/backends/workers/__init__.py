"""Resident workers as their parent sees them: started, spoken to in frames, watched and ended; and pools of them."""
