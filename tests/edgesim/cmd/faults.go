package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// faultSetters set one fault from its text, by name.
func faultSetters() map[string]func(*edgesim.Faults, string) error {
	fraction := func(field func(*edgesim.Faults) *float64) func(*edgesim.Faults, string) error {
		return func(f *edgesim.Faults, text string) error {
			v, err := strconv.ParseFloat(text, 64)
			if err == nil && (v < 0 || v > 1) {
				err = fmt.Errorf("%v is not between 0 and 1", v)
			}
			*field(f) = v
			return err
		}
	}
	duration := func(field func(*edgesim.Faults) *time.Duration) func(*edgesim.Faults, string) error {
		return func(f *edgesim.Faults, text string) (err error) {
			*field(f), err = time.ParseDuration(text)
			return err
		}
	}
	number := func(field func(*edgesim.Faults) *int) func(*edgesim.Faults, string) error {
		return func(f *edgesim.Faults, text string) (err error) {
			*field(f), err = strconv.Atoi(text)
			return err
		}
	}
	flag := func(field func(*edgesim.Faults) *bool) func(*edgesim.Faults, string) error {
		return func(f *edgesim.Faults, text string) (err error) {
			*field(f), err = strconv.ParseBool(text)
			return err
		}
	}
	return map[string]func(*edgesim.Faults, string) error{
		"drop-acks":      fraction(func(f *edgesim.Faults) *float64 { return &f.DropAcks }),
		"fail-store":     fraction(func(f *edgesim.Faults) *float64 { return &f.FailStore }),
		"delay-acks":     duration(func(f *edgesim.Faults) *time.Duration { return &f.DelayAcks }),
		"ack-jitter":     duration(func(f *edgesim.Faults) *time.Duration { return &f.AckJitter }),
		"clock-skew":     duration(func(f *edgesim.Faults) *time.Duration { return &f.ClockSkew }),
		"duplicate-acks": number(func(f *edgesim.Faults) *int { return &f.DuplicateAcks }),
		"fifo":           number(func(f *edgesim.Faults) *int { return &f.FIFO }),
		"stall-reads":    flag(func(f *edgesim.Faults) *bool { return &f.StallReads }),
		"half-open":      flag(func(f *edgesim.Faults) *bool { return &f.HalfOpen }),
		"no-pod-status":  flag(func(f *edgesim.Faults) *bool { return &f.NoPodStatus }),
		"swap-answers":   flag(func(f *edgesim.Faults) *bool { return &f.SwapAnswers }),
		"swap": func(f *edgesim.Faults, text string) error {
			modes := map[string]edgesim.SwapMode{"never": edgesim.SwapNever, "random": edgesim.SwapRandom, "always": edgesim.SwapAlways}
			mode, ok := modes[text]
			if !ok {
				return fmt.Errorf("%q is not never, random or always", text)
			}
			f.Swap = mode
			return nil
		},
	}
}

func faultNames() string {
	var names []string
	for name := range faultSetters() {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func parseFaults(texts []string) (edgesim.Faults, error) {
	var f edgesim.Faults
	setters := faultSetters()
	for _, text := range texts {
		name, value, _ := strings.Cut(text, "=")
		set, ok := setters[name]
		if !ok {
			return f, fmt.Errorf("fault %q is unknown; there are: %s", name, faultNames())
		}
		if err := set(&f, value); err != nil {
			return f, fmt.Errorf("fault %s: %w", name, err)
		}
	}
	return f, nil
}
