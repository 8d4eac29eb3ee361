"""How does a line of a list become content in the store: politely, safely, accounted for?"""
