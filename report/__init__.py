"""What people read: tables, PDF, plots, all made from artifacts and photographs; nothing here runs a model."""
