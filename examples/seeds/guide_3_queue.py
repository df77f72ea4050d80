# 003_c003194a68d6ccb9.txt, Example 3
import multiprocessing
import time
import random
def producer(queue: multiprocessing.Queue):
    """Puts numbers into the queue."""
    for i in range(5):
        num = random.randint(1, 100)
        print(f"Producer: putting {num} into the queue.")
        queue.put(num)
        time.sleep(1) # Simulate work
    print("Producer: finished. Sending sentinel value.")
    queue.put(-1) # Sentinel value to signal the end
def consumer(queue: multiprocessing.Queue):
    """Takes numbers from the queue."""
    while True:
        num = queue.get() # Blocks until an item is available
        if num == -1: # Check for the sentinel value
            print("Consumer: received sentinel. Exiting.")
            break
        print(f"Consumer: got {num}. Squaring it to get {num * num}")
        time.sleep(0.5) # Simulate work
if __name__ == "__main__":
    # Create a shared queue object
    task_queue = multiprocessing.Queue()
    # Create and start producer and consumer processes
    p1 = multiprocessing.Process(target=producer, args=(task_queue,))
    p2 = multiprocessing.Process(target=consumer, args=(task_queue,))
    p1.start()
    p2.start()
    # Wait for both processes to finish
    p1.join()
    p2.join()
    print("Main process finished.")
