__import__("boot_sequence").run(globals())
