"""How far a bundle's graphs agree with the student and with each other."""
