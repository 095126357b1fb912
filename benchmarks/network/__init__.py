"""What the network adds to the closed form where content bends: thick crystals, wedges, sheets."""
