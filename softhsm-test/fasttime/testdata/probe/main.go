// Command probe waits for an hour in every way that fasttime promises to make short,
// and prints the present before and after each.
package main

import (
	"context"
	"fmt"
	"time"
)

func main() {
	tell := func(way string, wait func()) {
		begun := time.Now()
		wait()
		fmt.Println(way, begun.UnixNano(), time.Now().UnixNano(), int64(time.Since(begun)), -int64(time.Until(begun)))
	}
	tell("After", func() { <-time.After(time.Hour) })
	tell("Timer", func() { t := time.NewTimer(time.Minute); t.Reset(time.Hour); <-t.C })
	tell("AfterFunc", func() { done := make(chan bool); time.AfterFunc(time.Hour, func() { close(done) }); <-done })
	tell("Ticker", func() { t := time.NewTicker(30 * time.Minute); <-t.C; <-t.C })
	tell("Context", func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		<-ctx.Done()
	})
}
