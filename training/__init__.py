"""How the weights in weights/ were made: data, recipes and commands (`anyloom train ...`)."""
