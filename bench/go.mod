module github.com/bufsock/bufsock/bench

go 1.26

require (
	github.com/bufsock/bufsock v0.0.0
	github.com/cloudwego/netpoll v0.7.2
	github.com/markdingo/netstring v1.0.2
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/bytedance/gopkg v0.1.1 // indirect
	github.com/cloudwego/gopkg v0.1.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/bufsock/bufsock => ../
