"""Threads, and what several of them share, as interrupts leave it.

`locks` are held in the name of `works`, what is under way on a thread; `guards` keep others out whatever interrupts;
`threads` are at work or not there.
"""
