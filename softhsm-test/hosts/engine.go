package main

import "time"

// engine is the store that the hosts share.
type engine interface {
	// section is how the configuration names it.
	section() string
	// stop ends all of it as an operator does, and start begins it again.
	stop() error
	start() error
	// slow delays each of its answers by so long; 0: not any more.
	slow(by time.Duration) error
	// refuse has it take no writes, and take has it take them again.
	refuse() error
	take() error
	// fill leaves no room in it, and empty makes room again.
	fill() error
	empty() error
	// failOver loses the server that decides, without a warning, and brings another one to its place.
	failOver() error
	close() error
}
