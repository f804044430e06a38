"""Procedurally rendered faces whose landmarks, masks and labels are exact by construction."""
