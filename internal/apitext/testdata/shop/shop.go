// Package shop declares one of each kind.
package shop

import "io"

const (
	Open         = 8
	Sign         = "open"
	Closing hour = 20

	inventory = 1
)

type hour int

var Till io.Writer

func Buy(goods string, price float64) (change []byte, err error) { return nil, nil }

func steal() {}

type Price = uint64

type Hours map[string]hour

func (Hours) Today() int { return Open }

type Item struct {
	Name  string
	Price Price
}

type Basket struct {
	Cart
	Items []Item
	owner string
}

func (b *Basket) Add(i Item, more ...Item) { b.owner = "" }
func (b Basket) Total() Price              { return inventory }
func (b *Basket) steal()                   { steal() }

type Cart struct{}

func (Cart) Push() {}

type Seller interface {
	io.Closer
	Sell(item Item) error
	sealed()
}

type Visitor interface{ Look() }
