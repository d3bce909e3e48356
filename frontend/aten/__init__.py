"""The torch.export importer: an ``ExportedProgram`` becomes an ``nn`` module."""
