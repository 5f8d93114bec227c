package main

import "context"

func demonstrate(context.Context, string, options) error { return nil }
