"""Telling people of questions: what is news of a ticket goes by webhook and e-mail to those it concerns."""
