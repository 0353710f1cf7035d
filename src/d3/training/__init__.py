"""How models are made and measured."""
