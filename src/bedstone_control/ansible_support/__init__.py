"""Ansible's side: plain values, places of variables, trees of templates."""
